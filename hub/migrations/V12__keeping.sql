-- What ends rows: holds that forbid it, destructions as they were proposed, approved and run, and what
-- keeps destroyed rows from coming back (CB-18, HU-26b; decision 0018).

create table phusa.holds (
  hold bigint generated always as identity primary key,
  dataset text not null,
  because text not null,
  added_by text not null,
  added_at timestamptz not null,
  lifted_by text,
  lifted_at timestamptz
);
create index holds_in_force on phusa.holds (dataset) where lifted_at is null;

create table phusa.destructions (
  destruction bigint generated always as identity primary key,
  dataset text not null,
  -- Of the contract in force when it was proposed; another one needs another proposal.
  fingerprint text not null,
  -- What ended, or was last changed, before this moment.
  before timestamptz not null,
  -- Rows in force too, not only former versions.
  current bool not null,
  because text not null,
  proposed_by text not null,
  proposed_at timestamptz not null,
  approved_by text,
  approved_at timestamptz,
  -- The entry of the log, committed with the destruction.
  transfer bigint,
  run_at timestamptz,
  -- When nothing of it was left in the files of this database either.
  purged_at timestamptz,
  check (approved_by is null or approved_by <> proposed_by)
);

-- One for each set of columns that rows were destroyed with: the salt of the marks in
-- `<table>__gone`, by which a destroyed row is known if it is delivered again unchanged.
create table phusa.gone (
  dataset text not null,
  generation int not null,
  columns text[] not null,
  salt bytea not null,
  primary key (dataset, generation)
);
