-- Records are JSON documents in strings. ARGV from 3: each record's document.
local at = 3
local all = {}

local function skip()
  at = at + 1
end

local function add(key)
  all[#all + 1] = key
  all[#all + 1] = ARGV[at]
  at = at + 1
end

local function finish()
  if #all > 0 then
    redis.call('MSETNX', unpack(all))
  end
end
