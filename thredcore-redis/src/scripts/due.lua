-- Timers that are due, in their order, and the first one that is not among them.
-- KEYS: timers. ARGV: where to begin, where those end that are due, limit.
local due = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])
local from = due[#due] and '(' .. due[#due] or ARGV[1]
return { due, redis.call('ZRANGEBYLEX', KEYS[1], from, '+', 'LIMIT', 0, 1) }
