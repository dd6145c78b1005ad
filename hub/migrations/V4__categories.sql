-- Category lists of the province. Names begin with an underscore, as every thing of the hub's own in
-- a theme's schema does, so that no contract's table can be meant.

create schema if not exists danh_muc;

-- Every version ever in force; `body` is the list as canonical JSON, `digest` its SHA-256.
create table danh_muc._list (
  list text not null,
  version int not null,
  title_vi text not null,
  title_en text not null,
  source text not null,
  valid_from date,
  valid_to date,
  any_of_digits int,
  digest text not null,
  body text not null,
  imported_at timestamptz not null default now(),
  in_force bool not null,
  primary key (list, version)
);
create unique index _list_in_force on danh_muc._list (list) where in_force;

-- `valid_to` is the first day no longer in force; null means without an end.
create table danh_muc._code (
  list text not null,
  version int not null,
  place bigint not null,
  code text not null,
  name text not null,
  valid_from date,
  valid_to date,
  primary key (list, version, place),
  foreign key (list, version) references danh_muc._list
);

create table danh_muc._becomes (
  list text not null,
  version int not null,
  place bigint not null,
  code_from text not null,
  code_to text not null,
  valid_from date,
  valid_to date,
  primary key (list, version, place),
  foreign key (list, version) references danh_muc._list
);

-- What a query over shared data joins with.
create view danh_muc._code_in_force as
  select c.list, c.code, c.name, c.valid_from, c.valid_to
  from danh_muc._code c join danh_muc._list l using (list, version)
  where l.in_force;
