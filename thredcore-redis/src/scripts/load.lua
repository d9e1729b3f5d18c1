-- Records and outboxes of threds, as of one moment.
-- KEYS: threds, outboxes. ARGV: threds.
return { redis.call('HMGET', KEYS[1], unpack(ARGV)), redis.call('HMGET', KEYS[2], unpack(ARGV)) }
