-- Every public key an agent was ever registered with, and the transfers it may have signed: what
-- lets the log verify after a key was changed. Each row is signed by the hub.
create table phusa.keys (
  agent text not null,
  public_key text not null,
  first_transfer bigint not null,
  last_transfer bigint,
  -- Since when the register names another key, or none.
  replaced_at timestamptz,
  hub_signature text not null,
  primary key (agent, public_key, first_transfer)
);
