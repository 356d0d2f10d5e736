-- Records are JSON documents in strings. ARGV from 4: each record's document. If no
-- record expires, one command writes all.
local at = 4
local all = {}

local function skip()
  at = at + 1
end

local function add(key, expires)
  if expires then
    redis.call('SET', key, ARGV[at], 'PXAT', expires)
  elseif ARGV[3] ~= '' then
    redis.call('SET', key, ARGV[at])
  else
    all[#all + 1] = key
    all[#all + 1] = ARGV[at]
  end
  at = at + 1
end

local function finish()
  if #all > 0 then
    redis.call('MSETNX', unpack(all))
  end
end
