-- Notes that a consumer is alive, and gives it what dead ones have left, as it was counted for them.
-- KEYS: alive, stream. ARGV: token, group, visibility (ms), how many to take over.
-- Answers how many messages the consumer has.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now - ARGV[3]))
local left = tonumber(ARGV[4])
local mine = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[2], ARGV[2])) do
    local name, pending
    for place = 1, #consumer, 2 do
        if consumer[place] == 'name' then
            name = consumer[place + 1]
        elseif consumer[place] == 'pending' then
            pending = consumer[place + 1]
        end
    end
    if name == ARGV[1] then
        mine = mine + pending
    elseif not redis.call('ZSCORE', KEYS[1], name) then
        local count = math.min(pending, left)
        if count > 0 then
            for _, entry in ipairs(redis.call('XPENDING', KEYS[2], ARGV[2], '-', '+', count, name)) do
                redis.call('XCLAIM', KEYS[2], ARGV[2], ARGV[1], 0, entry[1], 'JUSTID')
            end
            left = left - count
            mine = mine + count
        end
        if count == pending then
            redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], name)
        end
    end
end
return mine
