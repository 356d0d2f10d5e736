-- A record is a hash. ARGV from 8: the version's field, then fields and values.
local function is_version(v)
  return type(v) == 'string' and #v == 32 and not string.find(v, '[^0-9a-f]')
end

local function stored()
  local v = redis.pcall('HGET', KEYS[1], ARGV[8])
  if is_version(v) then
    return v, 'ours'
  end
  if v or redis.call('EXISTS', KEYS[1]) == 1 then
    return nil, 'foreign'
  end
  return nil, 'none'
end

local function write(owner)
  if owner == 'foreign' then
    redis.call('UNLINK', KEYS[1])
  end
  redis.call('HSET', KEYS[1], ARGV[8], ARGV[1], unpack(ARGV, 9))
  if redis.call('HLEN', KEYS[1]) ~= 1 + (#ARGV - 8) / 2 then
    local ours = {[ARGV[8]] = true}
    for i = 9, #ARGV, 2 do
      ours[ARGV[i]] = true
    end
    for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
      if not ours[name] then
        redis.call('HDEL', KEYS[1], name)
      end
    end
  end
end
