-- Records are JSON documents in strings. ARGV from 4: each record's document.
local at = 4

local function skip()
  at = at + 1
end

local function add(key, expires)
  if expires then
    redis.call('SET', key, ARGV[at], 'PXAT', expires)
  else
    redis.call('SET', key, ARGV[at])
  end
  at = at + 1
end

local function finish() end
