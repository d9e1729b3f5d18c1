-- Adds items behind all others, and rings for whoever waits for some.
-- An item's id is a number: microseconds since the Unix epoch, or one more than the last id. So no id
-- comes twice, even if the server has lost its last writes.
local function add(items, order, waiting, last, label, payloads)
    local time = redis.call('TIME')
    local before = tonumber(redis.call('GET', last) or 0)
    local id = math.max(time[1] * 1000000 + time[2], before + 1)
    local fields = {}
    for place, payload in ipairs(payloads) do
        fields[2 * place - 1] = string.format('%d', id + place - 1)
        fields[2 * place] = payload
    end
    redis.call('HSET', items, unpack(fields))
    redis.call('RPUSH', order, string.format('%d %d', id, #payloads))
    redis.call('SET', last, string.format('%d', id + #payloads - 1))
    local channels = redis.call('SMEMBERS', waiting)
    if #channels > 0 then
        for _, channel in ipairs(channels) do
            redis.call('PUBLISH', channel, label)
        end
        redis.call('DEL', waiting)
    end
end
