-- How many items there are, when the oldest was published (microseconds since the Unix epoch, 0: there is
-- none), how many consumers count as alive, and how many dead letters there are.
-- KEYS: items, order, held, delayed, dead, alive. ARGV: after how long (ms) a consumer is not alive.
local depth = redis.call('HLEN', KEYS[1])
local oldest = 0
local function older(id)
    if id and (oldest == 0 or tonumber(id) < oldest) then
        oldest = tonumber(id)
    end
end
if depth > 0 then
    older(string.match(redis.call('LINDEX', KEYS[2], 0) or '', '^%d+'))
    older(redis.call('ZRANGE', KEYS[4], 0, 0)[1])
    for _, runs in ipairs(redis.call('HVALS', KEYS[3])) do
        local found = false
        for first, length in string.gmatch(runs, '(%d+) (%d+)\n') do
            for id = tonumber(first), tonumber(first) + tonumber(length) - 1 do
                if not found and redis.call('HEXISTS', KEYS[1], string.format('%d', id)) == 1 then
                    older(id)
                    found = true
                end
            end
        end
    end
end
local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
return {
    depth,
    string.format('%.0f', oldest),
    redis.call('ZCOUNT', KEYS[6], string.format('%.0f', since), '+inf'),
    redis.call('XLEN', KEYS[5]),
}
