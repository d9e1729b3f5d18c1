-- Writes records about events that changed nothing, each once, and receipts.
-- KEYS: records, known ones, receipts, those of the generation before, dead, their times, numbers.
-- ARGV: records kept, the generation, now, how long receipts of dead letters are kept (ms), how many
-- records there are; key, type and text of each; then key and receipt of each: how often it was dead, 0
-- if it is settled.
--
-- A field of a generation has the first two bytes of keys as its name, and the other fourteen of each
-- of them as its value. When a generation begins, the one before the last goes. So a receipt outlives
-- at least one whole generation.
local unmoved, known, receipts, before, dead, dead_times, numbers = unpack(KEYS)
local call, sub, find = redis.call, string.sub, string.find
local kept, generation, now, dead_time, records =
  tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local first = 5 + 3 * (records or 0)
if not (kept and generation and now and dead_time and records) or (#ARGV - first) % 2 ~= 0 then
  return redis.error_reply('ERR settle.lua: wrong number of arguments')
end

for at = 6, first, 3 do
  local key, kind = ARGV[at], ARGV[at + 1]
  local kinds = call('HGET', known, key) or ''
  if not find(kinds, '"' .. kind .. '"', 1, true) then
    local number = call('HINCRBY', unmoved, 'n', 1)
    call('HSET', unmoved, string.format('%.0f', number), key .. kind .. '\n' .. ARGV[at + 2])
    call('HSET', known, key, kinds .. '"' .. kind .. '"')
    local gone = string.format('%.0f', number - kept)
    local old = call('HGET', unmoved, gone)
    if old then
      local old_key = sub(old, 1, 16)
      local old_kind = '"' .. (string.match(old, '^[^\n]*', 17) or '') .. '"'
      local rest = call('HGET', known, old_key) or ''
      local from, to = find(rest, old_kind, 1, true)
      rest = from and sub(rest, 1, from - 1) .. sub(rest, to + 1) or rest
      if rest == '' then
        call('HDEL', known, old_key)
      else
        call('HSET', known, old_key, rest)
      end
      call('HDEL', unmoved, gone)
    end
  end
end
if first == #ARGV then
  return 0
end

local REST = 14
local function holds(bucket, rest)
  local at = find(bucket, rest, 1, true)
  while at and (at - 1) % REST ~= 0 do
    at = find(bucket, rest, at + 1, true)
  end
  return at
end

local behind = generation - tonumber(call('HGET', numbers, 'generation') or '0')
if behind > 0 then
  call('UNLINK', before)
  if behind > 1 then
    call('UNLINK', receipts)
  elseif call('EXISTS', receipts) == 1 then
    call('RENAME', receipts, before)
  end
  call('HSET', numbers, 'generation', ARGV[2])
end

-- Each call of a command costs as much as some of its arguments: all are read by one, and written by one.
local names, buckets, changed, new = {}, {}, {}, {}
for at = first + 1, #ARGV, 2 do
  names[#names + 1] = sub(ARGV[at], 1, 2)
end
for at, bucket in ipairs(call('HMGET', receipts, unpack(names))) do
  buckets[names[at]] = bucket or ''
end
local some_dead = call('EXISTS', dead) == 1
for at = first + 1, #ARGV, 2 do
  local key, times = ARGV[at], tonumber(ARGV[at + 1])
  local name, rest = sub(key, 1, 2), sub(key, 3)
  local bucket = buckets[name]
  local settled = holds(bucket, rest)
  if times == 0 then
    if not settled then
      buckets[name] = bucket .. rest
      changed[name] = true
    end
    if some_dead and call('HDEL', dead, key) == 1 then
      call('ZREM', dead_times, key)
    end
  elseif not settled and not holds(call('HGET', before, name) or '', rest) then
    if times > tonumber(call('HGET', dead, key) or '0') then
      call('HSET', dead, key, times)
      call('ZADD', dead_times, ARGV[3], key)
      some_dead = true
    end
    for _, old in ipairs(call('ZRANGEBYSCORE', dead_times, '-inf', now - dead_time, 'LIMIT', 0, 16)) do
      call('ZREM', dead_times, old)
      call('HDEL', dead, old)
    end
  end
end
for name in pairs(changed) do
  new[#new + 1] = name
  new[#new + 1] = buckets[name]
end
if #new > 0 then
  call('HSET', receipts, unpack(new))
end
return 0
