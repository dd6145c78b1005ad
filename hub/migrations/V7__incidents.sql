-- What a person has to look at: one row per cause while it is open. No row value is in here.

create table phusa.incidents (
  incident bigint generated always as identity primary key,
  kind text not null,
  -- Kind, agent, dataset and what is wrong: the same each time it happens.
  cause_key text not null,
  agent text,
  dataset text,
  -- In words, as it was first seen.
  cause text not null,
  opened_at timestamptz not null,
  last_at timestamptz not null,
  count bigint not null default 1,
  -- What happened when, oldest first; bounded, the count goes on.
  timeline jsonb not null,
  closed_at timestamptz,
  closed_by text,
  close_note text
);
create unique index incidents_open on phusa.incidents (cause_key) where closed_at is null;
create index incidents_of_dataset on phusa.incidents (dataset, incident);
