-- What comparisons of source and warehouse came to (HU-03). No row, no key: counts and digests.

create table phusa.proofs (
  proof bigint generated always as identity primary key,
  dataset text not null,
  agent text not null,
  compared_at timestamptz not null,
  stored_at timestamptz not null default now(),
  source_rows bigint not null,
  source_sum text not null,
  warehouse_rows bigint not null,
  warehouse_sum text not null,
  differing bigint not null
);
create index proofs_of_dataset on phusa.proofs (dataset, proof);
