-- What the log says of an identity last, found at once (decision 0017).
create index transfers_identity on phusa.transfers (agent, transfer) where kind = 'identity';
