-- Who may speak: identities of enrolled agents and what was decided about any agent, the
-- certificates that were issued, and the one-time codes. No private key is in here; of a code only
-- the key of its HMAC, until it is over.

create table phusa.identities (
  agent text primary key,
  -- None for an agent whose key stands in its file of agents_dir.
  signing_key text,
  recovery_key text,
  -- The newest certificate's, and the oldest one that is still believed.
  generation bigint not null,
  least_generation bigint not null,
  -- Networks it may come from, between blanks; empty for anywhere the hub allows.
  networks text not null,
  -- active, suspended, locked, revoked.
  state text not null,
  because text not null,
  decided_by text not null,
  since timestamptz not null,
  -- Who asked to lift a suspension that takes two.
  resume_asked_by text,
  -- Of all of the above, so that whoever writes to the database cannot let an agent in.
  hub_signature text not null
);

create table phusa.certificates (
  agent text not null,
  generation bigint not null,
  -- Digest of the request it answers: asked again, it is answered again.
  asked text not null,
  certificate text not null,
  not_after timestamptz not null,
  issued_at timestamptz not null,
  primary key (agent, generation)
);

create table phusa.invitations (
  invitation text primary key,
  agent text not null,
  networks text not null,
  code_key bytea,
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  needs_approval boolean not null,
  -- open, waiting, approved, refused, used.
  state text not null,
  decided_by text,
  -- Digest of the request it was first used with.
  asked text,
  generation bigint
);
create index invitations_of_agent on phusa.invitations (agent);
