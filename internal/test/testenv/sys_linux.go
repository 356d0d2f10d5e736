package testenv

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// setDeathSignal makes the kernel send sig to the child when the *thread* that starts it ends;
// hence spawnLoop.
func setDeathSignal(attr *syscall.SysProcAttr, sig syscall.Signal) { attr.Pdeathsig = sig }

// freeMemory returns how many bytes a file system in memory can take, by its own limit and by
// the machine's free memory; 0 where there is no such file system.
func freeMemory(path string) int64 {
	const tmpfs = 0x01021994
	var fs syscall.Statfs_t
	if syscall.Statfs(path, &fs) != nil || fs.Type != tmpfs {
		return 0
	}
	raw, _ := os.ReadFile("/proc/meminfo")
	_, rest, _ := strings.Cut(string(raw), "MemAvailable:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseInt(fields[0], 10, 64)
	return min(kib<<10, int64(fs.Bavail)*fs.Bsize)
}

// procStat returns a process's state letter, parent and start time (clock ticks since boot);
// false when there is no such process.
func procStat(pid int) (state byte, parent int, start string, ok bool) {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, "", false
	}
	// The second field is the program's name in parentheses and may contain any byte.
	_, rest, found := strings.Cut(string(raw[strings.LastIndexByte(string(raw), ')'):]), ") ")
	fields := strings.Fields(rest)
	if !found || len(fields) < 20 {
		return 0, 0, "", false
	}
	parent, _ = strconv.Atoi(fields[1])
	return fields[0][0], parent, fields[19], true
}

func eachProcess(visit func(pid int)) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			visit(pid)
		}
	}
}

// running reports whether pid exists and is no zombie.
func running(pid int) bool {
	state, _, _, ok := procStat(pid)
	return ok && state != 'Z' && state != 'X'
}

// programOf returns the name of a process's program file, "" if it is not known.
func programOf(pid int) string {
	path, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	if err != nil {
		return ""
	}
	return filepath.Base(path)
}

func stopped(pid int) bool {
	state, _, _, ok := procStat(pid)
	return ok && (state == 'T' || state == 't')
}

func startTime(pid int) string {
	_, _, start, _ := procStat(pid)
	return start
}

func childrenOf(pid int) (children []int) {
	eachProcess(func(p int) {
		if state, parent, _, ok := procStat(p); ok && parent == pid && state != 'Z' {
			children = append(children, p)
		}
	})
	return children
}

// processesIn returns the processes whose working directory is below dir. Our servers and all
// their children are, so a reused pid is never mistaken for one of them.
func processesIn(dir string) (pids []int) {
	eachProcess(func(p int) {
		cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(p), "cwd"))
		if err == nil && strings.HasPrefix(cwd, dir+"/") && p != os.Getpid() && running(p) {
			pids = append(pids, p)
		}
	})
	return pids
}

// ephemeralLow is the first port of the kernel's range for outgoing connections.
func ephemeralLow() int {
	raw, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 32768
	}
	low, _, _ := strings.Cut(strings.TrimSpace(string(raw)), "\t")
	if n, err := strconv.Atoi(low); err == nil {
		return n
	}
	return 32768
}
