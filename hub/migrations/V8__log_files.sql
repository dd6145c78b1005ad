-- The transparency log in files beside the database (decision 0016).

-- The entry's leaf, made with the entry: checksum, the hub's signature, hash of its key. Null in
-- entries of versions before this one, whose leaves are made when they enter the files.
alter table phusa.transfers add column leaf bytea check (octet_length(leaf) = 128);

-- The newest checkpoint that was published, and the last transfer from before there were leaves.
-- One row, made here.
create table phusa.log (
  only_one bool primary key default true check (only_one),
  log_key text,
  size bigint not null default 0,
  root bytea,
  published_at timestamptz,
  leafless_until bigint not null
);
insert into phusa.log (leafless_until)
  select coalesce(max(transfer), 0) from phusa.transfers;
