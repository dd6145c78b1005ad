-- What agents say of themselves over the link, how they were judged, and whom to call (decision 0020).

create table phusa.fleet_agents (
  agent text primary key,
  -- The newest report, canonical JSON, and when it arrived by the hub's clock.
  report text,
  reported_at timestamptz,
  -- The newest session, and how it ended if it has: lost or leaving.
  birth text,
  ended text,
  ended_at timestamptz,
  -- What was said of it last, so that a figure at its limit does not flicker after a restart.
  verdict text
) with (fillfactor = 50);

-- One row for five minutes, for a day: what sparklines are drawn from.
create table phusa.fleet_history (
  agent text not null,
  slot timestamptz not null,
  lag_seconds bigint not null,
  rows bigint not null,
  rejects bigint not null,
  spool_bytes bigint not null,
  primary key (agent, slot)
);

-- Focal points of agencies (CT-14, NA-10): the newest row counts, the others are the handover's history.
create table phusa.contacts (
  contact bigint generated always as identity primary key,
  agency text not null,
  name text not null,
  position text not null,
  duty text not null,
  phone text not null,
  email text not null,
  set_by text not null,
  set_at timestamptz not null
);
create index contacts_of_agency on phusa.contacts (agency, contact);
