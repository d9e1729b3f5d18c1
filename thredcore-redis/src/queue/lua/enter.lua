-- Makes a consumer one of its topic's.
-- KEYS: alive, stream. ARGV: token, group.
-- Fails when the group is there; a key of a wrong type shows at its first use.
redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[2], '0', 'MKSTREAM')
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[1])
return 1
