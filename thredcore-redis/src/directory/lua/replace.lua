-- Sets all groups, roles and services, and the sessions that are given so: those that were given
-- before and are not now are closed, others stay.
-- KEYS: groups, roles, services, version, sessions, opened, given. ARGV: channel, number of groups,
-- of roles, of services, then name and value of each group, each role, each service, then sessions.
local place = 5
for kind = 1, 3 do
    redis.call('DEL', KEYS[kind])
    local stop = place + 2 * tonumber(ARGV[kind + 1])
    while place < stop do
        redis.call('HSET', KEYS[kind], ARGV[place], ARGV[place + 1])
        place = place + 2
    end
end
local now = {}
for at = place, #ARGV do
    now[ARGV[at]] = true
end
for _, session in ipairs(redis.call('SMEMBERS', KEYS[7])) do
    if not now[session] then
        redis.call('ZREM', KEYS[5], session)
        redis.call('HDEL', KEYS[6], session)
    end
end
redis.call('DEL', KEYS[7])
for at = place, #ARGV do
    local session = ARGV[at]
    if redis.call('ZADD', KEYS[5], '+inf', session) == 1 then
        redis.call('HSET', KEYS[6], session, redis.call('INCR', KEYS[4]))
    end
    redis.call('SADD', KEYS[7], session)
end
redis.call('PUBLISH', ARGV[1], redis.call('INCR', KEYS[4]))
return 1
