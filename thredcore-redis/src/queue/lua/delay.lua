-- Has an item wait here, under a new id, for whoever asks when it is due; does nothing when it has gone.
-- KEYS: fence, items, attempts, delayed, last, waiting. ARGV: token, id, delay (ms), attempts and
-- failures, label.
local payload = redis.call('HGET', KEYS[2], ARGV[2])
if payload then
    local time = redis.call('TIME')
    local before = tonumber(redis.call('GET', KEYS[5]) or 0)
    local id = string.format('%d', math.max(time[1] * 1000000 + time[2], before + 1))
    redis.call('SET', KEYS[5], id)
    redis.call('HSET', KEYS[2], id, payload)
    redis.call('HDEL', KEYS[2], ARGV[2])
    redis.call('HDEL', KEYS[3], ARGV[2])
    redis.call('HSET', KEYS[3], id, ARGV[4])
    redis.call('ZADD', KEYS[4], string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3]), id)
    -- Whoever waits has to know until when.
    for _, channel in ipairs(redis.call('SMEMBERS', KEYS[6])) do
        redis.call('PUBLISH', channel, ARGV[5])
    end
    redis.call('DEL', KEYS[6])
end
return 1
