-- What agents, as witnesses, signed of the log (tlog-cosignature v1). Only recent heads are kept, and
-- the one that last had enough signatures for the policy.
create table phusa.heads (
  size bigint primary key,
  root bytea not null,
  -- The checkpoint as the log signed it, with whatever cosignatures it had when it was proven.
  note text not null,
  proven_at timestamptz
);

create table phusa.cosignatures (
  size bigint not null references phusa.heads on delete cascade,
  witness text not null,
  signed_at bigint not null,
  line text not null,
  primary key (size, witness)
);
