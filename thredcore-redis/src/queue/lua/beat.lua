-- Notes that a consumer is alive, and gives it what dead ones have left, as it was counted for them.
-- KEYS: alive, items, held. ARGV: token, visibility (ms), how many to take over.
-- Answers how many messages the consumer has.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
local holders = redis.call('HKEYS', KEYS[3])
if #holders == 0 then
    return 0
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[2]))
local mine, count = left_of(KEYS[2], KEYS[3], ARGV[1])
local most = tonumber(ARGV[3])
for _, holder in ipairs(holders) do
    if most > 0 and holder ~= ARGV[1] and not redis.call('ZSCORE', KEYS[1], holder) then
        local runs, left = left_of(KEYS[2], KEYS[3], holder)
        for _, run in ipairs(runs) do
            mine[#mine + 1] = run
        end
        redis.call('HDEL', KEYS[3], holder)
        count, most = count + left, most - left
    end
end
if #mine > 0 then
    redis.call('HSET', KEYS[3], ARGV[1], table.concat(mine))
else
    redis.call('HDEL', KEYS[3], ARGV[1])
end
return count
