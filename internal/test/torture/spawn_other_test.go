//go:build unix && !linux

package torture

import "syscall"

func setParentDeathSignal(*syscall.SysProcAttr) {}
