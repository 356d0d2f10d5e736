-- A record is a hash. ARGV[3]: the version's field. A record's arguments: its fields
-- and values.
local function is_version(v)
  return type(v) == 'string' and #v == 32 and not string.find(v, '[^0-9a-f]')
end

local function stored(key)
  local v = redis.pcall('HGET', key, ARGV[3])
  if is_version(v) then
    return v, 'ours'
  end
  if v or redis.call('EXISTS', key) == 1 then
    return nil, 'foreign'
  end
  return nil, 'none'
end

local function write(key, owner, version, from, to)
  if owner == 'foreign' then
    redis.call('UNLINK', key)
  end
  redis.call('HSET', key, ARGV[3], version, unpack(ARGV, from, to))
  if owner ~= 'ours' then -- it did not exist, or no longer does
    return
  end
  redis.call('PERSIST', key)
  if redis.call('HLEN', key) ~= 1 + (to - from + 1) / 2 then
    local ours = {[ARGV[3]] = true}
    for i = from, to, 2 do
      ours[ARGV[i]] = true
    end
    for _, name in ipairs(redis.call('HKEYS', key)) do
      if not ours[name] then
        redis.call('HDEL', key, name)
      end
    end
  end
end
