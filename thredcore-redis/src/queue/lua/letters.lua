-- Puts a letter among the dead ones, and drops the oldest as long as they are too many bytes or too old.
-- The id of one is when it came there, microseconds since the Unix epoch, and a number.
-- Answers how many were dropped.
local function trim_letters(dead, bytes, most, longest)
    local time = redis.call('TIME')
    local oldest = time[1] * 1000000 + time[2] - longest * 1000
    local total = tonumber(redis.call('GET', bytes) or '0')
    local dropped = 0
    while dropped < 256 do
        local two = redis.call('XRANGE', dead, '-', '+', 'COUNT', 2)
        if #two == 0 then
            break
        end
        local at, size = tonumber(string.match(two[1][1], '^%d+')), tonumber(two[1][2][2]) or 0
        if at >= oldest and (total <= most or #two == 1) then
            break
        end
        redis.call('XDEL', dead, two[1][1])
        total = redis.call('DECRBY', bytes, size)
        dropped = dropped + 1
    end
    return dropped
end

local function letter(dead, bytes, most, longest, payload, reason, attempts, times, moved)
    local time = redis.call('TIME')
    local at = time[1] * 1000000 + time[2]
    local info = redis.pcall('XINFO', 'STREAM', dead)
    for place = 1, info.err and 0 or #info, 2 do
        if info[place] == 'last-generated-id' then
            at = math.max(at, tonumber(string.match(info[place + 1], '^%d+')))
        end
    end
    local size = #payload + #reason + #moved + 200
    redis.call('XADD', dead, string.format('%.0f', at) .. '-*', 's', size, 'p', payload, 'reason', reason,
        'attempts', attempts, 'times', times, 'moved', moved)
    redis.call('INCRBY', bytes, size)
    return trim_letters(dead, bytes, most, longest)
end
