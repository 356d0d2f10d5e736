-- A record is a JSON document in a string. ARGV[3]: the beginning of the document up to
-- its version's digits. A record's argument: the document.
local function is_version(v)
  return type(v) == 'string' and #v == 32 and not string.find(v, '[^0-9a-f]')
end

local function stored(key)
  local head = redis.pcall('GETRANGE', key, 0, #ARGV[3] + 32)
  if type(head) == 'string' and #head == #ARGV[3] + 33
    and string.sub(head, 1, #ARGV[3]) == ARGV[3] and string.sub(head, -1) == '"' then
    local v = string.sub(head, #ARGV[3] + 1, -2)
    if is_version(v) then
      return v, 'ours'
    end
  end
  if head ~= '' or redis.call('EXISTS', key) == 1 then
    return nil, 'foreign'
  end
  return nil, 'none'
end

local function write(key, _, _, from)
  redis.call('SET', key, ARGV[from])
end
