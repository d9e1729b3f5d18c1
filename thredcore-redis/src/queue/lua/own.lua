-- Only the owner of the partition goes on: KEYS[1] is the lease, ARGV[1] the owner's token.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return false
end
