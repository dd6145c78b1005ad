-- Each comparison that is kept names its entry in the transfer log; those taken down by earlier
-- versions have none.

alter table phusa.proofs add column transfer bigint;
