-- Rollouts of releases, which agent is to run what, and when agencies may be updated (decision 0022).

create table phusa.rollouts (
  rollout bigint generated always as identity primary key,
  version text not null,
  -- Where `revert` leads.
  previous text,
  -- JSON: the rings in their order, each named agents or a share of all.
  rings text not null,
  -- The ring that is being updated, from 0.
  ring integer not null default 0,
  -- Agents of the rings so far that have not committed; null before they were counted.
  waiting integer,
  -- running, paused, halted, done, reverted, replaced.
  state text not null,
  -- Why it is not running, where it is not.
  because text,
  started_by text not null,
  started_at timestamptz not null,
  changed_at timestamptz not null
);
create unique index rollouts_open on phusa.rollouts ((true)) where state in ('running', 'paused', 'halted');

create table phusa.release_assignments (
  agent text primary key,
  version text not null,
  rollout bigint not null references phusa.rollouts,
  -- What became of it there, as the agent reported last: a stage of an update.
  stage text not null default 'offered',
  -- Why it was taken back, where it was.
  why text,
  changed_at timestamptz not null
) with (fillfactor = 50);

-- When agents of an agency may be updated. A window counts when it was announced a day before it begins, or
-- in an emergency with its reason (CB-16). Notices are sent from here; nothing is ever removed.
create table phusa.maintenance (
  maintenance bigint generated always as identity primary key,
  -- None: every agency.
  agency text,
  begins timestamptz not null,
  ends timestamptz not null,
  emergency text,
  announced_by text not null,
  announced_at timestamptz not null,
  cancelled_at timestamptz,
  check (begins < ends),
  check (emergency is not null or begins >= announced_at + interval '24 hours')
);
create index maintenance_by_time on phusa.maintenance (ends);
