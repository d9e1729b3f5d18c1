-- Reads all of it, at one moment.
-- KEYS: groups, roles, services, sessions, opened, version.
-- Answers the version, names and values of groups and of roles, the services, the sessions that are
-- open, in the order of their opening, and after how long (ms) the first of them ends (-1: never).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sessions, places = {}, {}
local first = -1
local open = redis.call('ZRANGEBYSCORE', KEYS[4], string.format('%.0f', now), '+inf', 'WITHSCORES')
for place = 1, #open, 2 do
    sessions[#sessions + 1] = open[place]
    places[open[place]] = tonumber(redis.call('HGET', KEYS[5], open[place]) or 0)
    if first < 0 and open[place + 1] ~= 'inf' then
        first = math.max(0, open[place + 1] - now)
    end
end
table.sort(sessions, function(a, b) return places[a] < places[b] end)
return {
    redis.call('GET', KEYS[6]) or '0',
    redis.call('HGETALL', KEYS[1]),
    redis.call('HGETALL', KEYS[2]),
    redis.call('HKEYS', KEYS[3]),
    sessions,
    first,
}
