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

-- What people want of agents, until it is done, cancelled or over.
create table phusa.fleet_orders (
  fleet_order bigint generated always as identity primary key,
  agent text not null,
  dataset text not null,
  -- pause, reread.
  kind text not null,
  -- The epoch of the stream when it was asked for.
  epoch bigint not null,
  wanted_by text not null,
  because text not null,
  issued_at timestamptz not null,
  until timestamptz not null,
  changed_at timestamptz not null,
  -- open, done, cancelled, over.
  state text not null default 'open'
);
create unique index fleet_orders_open on phusa.fleet_orders (agent, dataset, kind) where state = 'open';
