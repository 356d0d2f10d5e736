package testenv

import (
	"errors"
	"os"
	"syscall"
)

// Private servers are not supported here: newServerDir returns an error before any of this is
// reached. It exists so that the command builds.
const (
	sigStop = syscall.Signal(19)
	sigCont = syscall.Signal(18)
	sigKill = syscall.SIGKILL
	sigInt  = syscall.SIGINT
	sigTerm = syscall.SIGTERM
	sigQuit = syscall.SIGQUIT
)

const supported = false

func tryLock(*os.File) (bool, error)                      { return true, nil }
func waitLock(*os.File) error                             { return nil }
func waitSharedLock(*os.File) error                       { return nil }
func sendSignal(int, syscall.Signal) error                { return errors.ErrUnsupported }
func ownedBy(os.FileInfo, int) bool                       { return true }
func removeSharedMemory(int)                              {}
func freeMemory(string) int64                             { return 0 }
func asAccount(account) *syscall.SysProcAttr              { return &syscall.SysProcAttr{} }
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}
func running(int) bool                                    { return false }
func stopped(int) bool                                    { return false }
func startTime(int) string                                { return "" }
func programOf(int) string                                { return "" }
func childrenOf(int) []int                                { return nil }
func processesIn(string) []int                            { return nil }
func ephemeralLow() int                                   { return 49152 }
