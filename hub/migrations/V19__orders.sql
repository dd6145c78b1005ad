-- What agents tell of orders that are done once, and what they say when they are asked.

-- The fault that stands in the way of an open order, as its agent tells it. `dataset` is empty where an
-- order is of the agent; `state` may be `refused` too.
alter table phusa.fleet_orders add column outcome text;

-- What agents said of themselves when they were asked: the report of that moment.
create table phusa.fleet_diagnoses (
  agent text not null,
  fleet_order bigint not null,
  told_at timestamptz not null,
  report text not null,
  primary key (agent, fleet_order)
);
