-- Records are hashes. ARGV from 4: the version's field, the number of fields,
-- their names; then for each record the fields that it has (1 or 0 for each), and their
-- values.
local fields = tonumber(ARGV[5])
local at = 6 + fields
local shapes = {}

-- shape returns the names of the next record's fields.
local function shape()
  local has = ARGV[at]
  at = at + 1
  local names = shapes[has]
  if not names then
    names = {}
    for i = 1, fields do
      if string.sub(has, i, i) == '1' then
        names[#names + 1] = ARGV[5 + i]
      end
    end
    shapes[has] = names
  end
  return names
end

local function skip()
  local names = shape() -- advances at
  at = at + #names
end

local function add(key, expires)
  local args = {key, ARGV[4], ARGV[2]}
  for i, name in ipairs(shape()) do
    args[2 + 2 * i], args[3 + 2 * i] = name, ARGV[at]
    at = at + 1
  end
  redis.call('HSET', unpack(args))
  if expires then
    redis.call('PEXPIREAT', key, expires)
  end
end

local function finish() end
