-- Incidents that last, are over, come back and are closed with a cause; announcements of maintenance; who
-- was told of what (decision 0021).

-- Whether what lasts goes on just now, as far as is known; what merely happens never does.
alter table phusa.incidents add column holds bool not null default false;
alter table phusa.incidents add column close_cause text;
create index incidents_of_agent on phusa.incidents (agent, incident);

-- Focal points, and the heads of units who are told when these have not acted.
alter table phusa.contacts add column level text not null default 'focal';
-- Why an order was taken back, where somebody said.
alter table phusa.fleet_orders add column ended_because text;

-- Windows of maintenance that were announced (CB-16).
create table phusa.notices (
  notice bigint generated always as identity primary key,
  title text not null,
  -- Of these agencies; empty for everybody.
  agencies text[] not null,
  from_at timestamptz not null,
  until_at timestamptz not null,
  -- Why it comes less than 24 hours ahead.
  emergency text,
  made_by text not null,
  made_at timestamptz not null,
  withdrawn_by text,
  withdrawn_at timestamptz
);
create index notices_until on phusa.notices (until_at);

-- When telling of an incident began anew, because it came back after it was closed.
alter table phusa.incidents add column told_from timestamptz;

-- Who was told of an incident: a step and a way once each, written down after it was taken there.
create table phusa.escalations (
  incident bigint not null references phusa.incidents,
  -- focal, head, province.
  step text not null,
  -- mail, webhook.
  way text not null,
  told_at timestamptz not null,
  primary key (incident, step, way)
);

-- Minutes of a day in which a probe committed something (CB-15).
create table phusa.probes (
  day date primary key,
  minutes int not null,
  last_minute timestamptz not null
);
