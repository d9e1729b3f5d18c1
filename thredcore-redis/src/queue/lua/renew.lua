-- KEYS: lease. ARGV: token, length (ms).
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
