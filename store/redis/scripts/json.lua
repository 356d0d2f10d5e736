-- A record is a JSON document in a string. ARGV from 8: the beginning of the
-- document up to its version's digits, then the document.
local function is_version(v)
  return type(v) == 'string' and #v == 32 and not string.find(v, '[^0-9a-f]')
end

local function stored()
  local head = redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[8] + 32)
  if type(head) == 'string' and #head == #ARGV[8] + 33
    and string.sub(head, 1, #ARGV[8]) == ARGV[8] and string.sub(head, -1) == '"' then
    local v = string.sub(head, #ARGV[8] + 1, -2)
    if is_version(v) then
      return v, 'ours'
    end
  end
  if head ~= '' or redis.call('EXISTS', KEYS[1]) == 1 then
    return nil, 'foreign'
  end
  return nil, 'none'
end

local function write()
  redis.call('SET', KEYS[1], ARGV[9])
end
