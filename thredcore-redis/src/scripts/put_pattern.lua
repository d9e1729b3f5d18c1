-- Makes a revision the current one of its pattern, or, without one, takes the pattern out of use.
-- KEYS: texts, current revisions, version. ARGV: channel, id, and revision, text.
local channel, id, revision, text = unpack(ARGV)
local current = redis.call('HGET', KEYS[2], id)
if revision then
  redis.call('HSET', KEYS[1], revision .. '\n' .. id, text)
  redis.call('HSET', KEYS[2], id, revision)
else
  redis.call('HDEL', KEYS[2], id)
end
if (current or '') ~= (revision or '') then
  redis.call('PUBLISH', channel, redis.call('INCR', KEYS[3]))
end
return 0
