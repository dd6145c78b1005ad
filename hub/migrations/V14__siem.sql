-- What the collector of the police or the province has been told of (HU-31): every entry by number, every
-- incident when it is opened. Nothing is taken as told before the line has stood for a while.

create table phusa.siem (
  -- Its address as the configuration names it: another one is told from the beginning.
  collector text primary key,
  -- The last entry it is known to have.
  number bigint not null,
  moved_at timestamptz not null
);

alter table phusa.incidents add column siem_told_at timestamptz;
update phusa.incidents set siem_told_at = closed_at where closed_at is not null;
create index incidents_untold on phusa.incidents (incident) where siem_told_at is null;
