-- Opens sessions or keeps them open; or, with a negative length, closes them.
-- KEYS: sessions, opened, version, given. ARGV: channel, length (ms; 0: without end), session…
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local changed = false
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now))) do
    redis.call('ZREM', KEYS[1], session)
    redis.call('HDEL', KEYS[2], session)
    changed = true
end
local length = tonumber(ARGV[2])
for place = 3, #ARGV do
    local session = ARGV[place]
    -- Whoever opens or closes it looks after it from now on.
    redis.call('SREM', KEYS[4], session)
    if length < 0 then
        changed = redis.call('ZREM', KEYS[1], session) == 1 or changed
        redis.call('HDEL', KEYS[2], session)
    else
        local last = length == 0 and '+inf' or string.format('%.0f', now + length)
        if redis.call('ZADD', KEYS[1], last, session) == 1 then
            changed = true
            redis.call('HSET', KEYS[2], session, redis.call('INCR', KEYS[3]))
        end
    end
end
if changed then
    redis.call('PUBLISH', ARGV[1], redis.call('INCR', KEYS[3]))
end
return 1
