-- Removes a topic, unless it has consumers.
-- KEYS: items, order, held, attempts, delayed, waiting, last, alive, dead. ARGV: after how long (ms) a
-- consumer is not alive, for how long (ms) the topic must have been idle and empty (-1: it need not).
-- Answers how many items there were (-1: it has consumers, -2: it is not idle), and how many dead
-- letters stay.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local count, letters = redis.call('HLEN', KEYS[1]), redis.call('XLEN', KEYS[9])
if redis.call('ZCOUNT', KEYS[8], string.format('%.0f', now - ARGV[1]), '+inf') > 0 then
    return {-1, letters}
end
local idle = tonumber(ARGV[2])
if idle >= 0 then
    local last = tonumber(redis.call('GET', KEYS[7]) or '0') / 1000
    if count > 0 or letters > 0 or now - last < idle then
        return {-2, letters}
    end
end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8])
return {count, letters}
