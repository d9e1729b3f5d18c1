-- Removes items that nobody has, some at a time.
-- KEYS: items, order, attempts, delayed.
-- Answers how many there were, and whether there may be more.
local ids = {}
while #ids < 1000 do
    local run = redis.call('LPOP', KEYS[2])
    if not run then
        break
    end
    local first, length = string.match(run, '^(%d+) (%d+)$')
    first, length = tonumber(first), tonumber(length)
    local some = math.min(length, 1000 - #ids)
    for id = first, first + some - 1 do
        ids[#ids + 1] = string.format('%d', id)
    end
    if some < length then
        redis.call('LPUSH', KEYS[2], string.format('%d %d', first + some, length - some))
    end
end
if #ids < 1000 then
    for _, id in ipairs(redis.call('ZRANGE', KEYS[4], 0, 999 - #ids)) do
        ids[#ids + 1] = id
        redis.call('ZREM', KEYS[4], id)
    end
end
if #ids == 0 then
    return {0, 0}
end
redis.call('HDEL', KEYS[3], unpack(ids))
return {redis.call('HDEL', KEYS[1], unpack(ids)), #ids == 1000 and 1 or 0}
