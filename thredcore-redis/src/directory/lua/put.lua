-- Sets one name of groups, roles or services, or removes it.
-- KEYS: names, version. ARGV: channel, name, value (none: remove).
local changed
if ARGV[3] then
    changed = redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[3]
    redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
else
    changed = redis.call('HDEL', KEYS[1], ARGV[2]) == 1
end
if changed then
    redis.call('PUBLISH', ARGV[1], redis.call('INCR', KEYS[2]))
end
return 1
