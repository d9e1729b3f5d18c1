-- KEYS: lease. ARGV: token, channel of the consumers.
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], 'free')
return 1
