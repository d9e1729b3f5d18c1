-- Moves items that nobody has had for too long to the dead letters.
-- Answers how many dead letters were dropped for that.
local function expire(items, order, dead, bytes, most, longest, ttl)
    local time = redis.call('TIME')
    local limit = time[1] * 1000000 + time[2] - ttl * 1000
    local dropped, count = 0, 0
    while count < 256 do
        local run = redis.call('LINDEX', order, 0)
        local first, length = string.match(run or '', '^(%d+) (%d+)$')
        first, length = tonumber(first), tonumber(length)
        if not first or first >= limit then
            break
        end
        redis.call('LPOP', order)
        local old = math.min(length, 256)
        while first + old - 1 >= limit do
            old = old - 1
        end
        for id = first, first + old - 1 do
            local name = string.format('%d', id)
            local payload = redis.call('HGET', items, name)
            if payload then
                dropped = dropped + letter(dead, bytes, most, longest, payload, 'EXPIRED', 0, 0, '')
                redis.call('HDEL', items, name)
            end
            count = count + 1
        end
        if old < length then
            redis.call('LPUSH', order, string.format('%d %d', first + old, length - old))
        end
    end
    return dropped
end
