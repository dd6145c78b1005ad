-- The life of a contract's version: proposed, signed by its owner and by the hub, in force, past.
-- A version that was in force before signatures were asked for stays in force and takes no batch
-- until both have signed it.

alter table phusa.contracts
  add column minor int not null default 0,
  add column proposed_at timestamptz,
  add column withdrawn_at timestamptz,
  -- The signed statements as canonical JSON.
  add column owner_consent text,
  add column hub_consent text,
  alter column applied_at drop not null,
  alter column applied_at drop default;

-- One version at a time is open for signing.
create unique index contracts_proposed on phusa.contracts (dataset)
  where applied_at is null and withdrawn_at is null;

-- A number stands for one text.
create unique index contracts_number on phusa.contracts (dataset, version, minor)
  where applied_at is not null and owner_consent is not null and hub_consent is not null;

-- The mapping an epoch began with; all its batches bear it.
alter table phusa.streams add column mapping bytea;
