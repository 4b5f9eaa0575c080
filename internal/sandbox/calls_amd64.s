#include "textflag.h"

#define SYS_clone 56
#define SYS_exit_group 231

// Offsets in a rawCall; see calls.go.
#define call_nr 0
#define call_args 8
#define call_indirect 56
#define call_pass 64
#define call_result 72
#define call_size 80

// func cloneCalls(flags uintptr, tid *uint32, list *rawCall) (pid uintptr)
//
// The new process has the caller's memory and stack pointer. It never touches that stack, nor
// anything of Go's: all it does is the loop below, in registers.
TEXT ·cloneCalls(SB),NOSPLIT,$0-32
	MOVQ	flags+0(FP), DI
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	tid+8(FP), R10
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	list+16(FP), R12
	MOVQ	$SYS_clone, AX
	SYSCALL
	TESTQ	AX, AX
	JZ	next
	MOVQ	AX, pid+24(FP)
	RET

next:
	MOVQ	call_nr(R12), AX
	MOVQ	(call_args+0)(R12), DI
	CMPQ	AX, $-1
	JEQ	check
	CMPQ	AX, $-2
	JEQ	jump
	MOVQ	(call_args+8)(R12), SI
	MOVQ	(call_args+16)(R12), DX
	MOVQ	(call_args+24)(R12), R10
	MOVQ	(call_args+32)(R12), R8
	MOVQ	(call_args+40)(R12), R9
	CMPQ	call_indirect(R12), $0
	JEQ	direct
	MOVQ	(DI), DI

direct:
	SYSCALL
	MOVQ	AX, call_result(R12)
	CMPQ	AX, $0xfffffffffffff001
	JCS	done
	MOVQ	call_pass(R12), R13
	CMPQ	R13, $-1
	JEQ	done
	ADDQ	AX, R13
	JEQ	done

stop:
	MOVQ	$125, DI
	MOVQ	$SYS_exit_group, AX
	SYSCALL
	UNDEF

done:
	ADDQ	$call_size, R12
	JMP	next

check:
	MOVL	(DI), AX
	TESTL	AX, AX
	JZ	stop
	MOVQ	$0, call_result(R12)
	JMP	done

jump:
	MOVQ	$0, call_result(R12)
	MOVQ	DI, R12
	JMP	next
