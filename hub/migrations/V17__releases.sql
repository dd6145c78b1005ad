-- Rollouts of releases, and which agent is to run what (decision 0022). Agencies are updated in windows of
-- maintenance that were announced: phusa.notices.

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
