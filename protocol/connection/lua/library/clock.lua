-- Redis' clock, the only one for times that several machines compare: their own may be hours apart.

local DAY_S = 86400

-- Seconds since 1970.
local function server_time()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1000000
end

-- The days from 1970-01-01 to a date of the Gregorian calendar, and back; after H. Hinnant,
-- "chrono-Compatible Low-Level Date Algorithms". Years begin in March, so that a leap day is the last.
local function days_until(year, month, day)
  if month <= 2 then year = year - 1 end
  local era = math.floor(year / 400)
  local of_era = year - era * 400
  local of_year = math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1
  local days = of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year
  return era * 146097 + days - 719468
end

local function date_after(days)
  local since = days + 719468
  local era = math.floor(since / 146097)
  local rest = since - era * 146097
  local of_era = math.floor((rest - math.floor(rest / 1460) + math.floor(rest / 36524)
                             - math.floor(rest / 146096)) / 365)
  local of_year = rest - (365 * of_era + math.floor(of_era / 4) - math.floor(of_era / 100))
  local from_march = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * from_march + 2) / 5) + 1
  local month = from_march < 10 and from_march + 3 or from_march - 9
  return era * 400 + of_era + (month <= 2 and 1 or 0), month, day
end

-- The time now, as RQ writes times: 2026-01-31T23:59:59.000001Z.
local function rq_time()
  local time = redis.call('TIME')
  local year, month, day = date_after(math.floor(time[1] / DAY_S))
  local second = time[1] % DAY_S
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day,
                       math.floor(second / 3600), math.floor(second / 60) % 60, second % 60, time[2])
end

-- The seconds since a time as RQ writes it, at least 0; nil if it is malformed.
local function seconds_since(text)
  local year, month, day, hour, minute, second =
    string.match(text, '^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d%.?%d*)Z$')
  if not year then return nil end
  local at = days_until(tonumber(year), tonumber(month), tonumber(day)) * DAY_S
             + hour * 3600 + minute * 60 + second
  return math.max(0, server_time() - at)
end
