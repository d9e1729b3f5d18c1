-- Takes a partition's lease, if it is free.
-- KEYS: lease, stream. ARGV: token, length (ms), group.
-- Answers the id up to which items have been handed out, or for how long (ms) another has the lease.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
    return redis.call('PTTL', KEYS[1])
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[2])
for _, group in ipairs(groups.err and {} or groups) do
    local fields = {}
    for place = 1, #group, 2 do
        fields[group[place]] = group[place + 1]
    end
    if fields['name'] == ARGV[3] then
        return fields['last-delivered-id']
    end
end
redis.call('XGROUP', 'CREATE', KEYS[2], ARGV[3], '0', 'MKSTREAM')
return '0-0'
