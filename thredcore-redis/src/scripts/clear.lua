-- Removes published entries from outboxes.
-- KEYS: outboxes, unpublished. ARGV: for each thred its id, and the entries' ids, each ended by a
-- newline.
-- An outbox has a line of JSON for each entry; in `unpublished` stand, a line each, when the oldest
-- was made and the ids.
local outboxes, unpublished = KEYS[1], KEYS[2]

-- Keeps the entries that are not named.
local function keep(id, ids, named)
  local published = {}
  for entry in string.gmatch(named, '([^\n]*)\n') do
    published[entry] = true
  end
  local next_line = string.gmatch(redis.call('HGET', outboxes, id), '[^\n]*\n')
  local kept, kept_ids, oldest = {}, {}, nil
  for entry in string.gmatch(ids, '([^\n]*)\n') do
    local line = next_line()
    if not published[entry] then
      kept[#kept + 1] = line
      kept_ids[#kept_ids + 1] = entry .. '\n'
      local made = string.match(line, '^-?%d+')
      if not oldest or tonumber(made) < tonumber(oldest) then
        oldest = made
      end
    end
  end
  if #kept == 0 then
    return redis.call('HDEL', outboxes, id), redis.call('HDEL', unpublished, id)
  end
  redis.call('HSET', outboxes, id, table.concat(kept))
  redis.call('HSET', unpublished, id, oldest .. '\n' .. table.concat(kept_ids))
end

for at = 1, #ARGV, 2 do
  local id, named = ARGV[at], ARGV[at + 1]
  local head = redis.call('HGET', unpublished, id)
  if head then
    local ids = string.match(head, '^[^\n]*\n(.*)$')
    if ids == named then
      redis.call('HDEL', outboxes, id)
      redis.call('HDEL', unpublished, id)
    else
      keep(id, ids, named)
    end
  end
end
return 0
