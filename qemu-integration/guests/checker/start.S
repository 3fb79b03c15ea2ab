// From power-on to C: multiboot entry (32-bit), long mode with the first 4 GiB mapped one to one in 2 MiB
// pages, the other vCPUs' way there, and a stub per exception. Multiboot specification 0.6.96, with the
// address fields, so that the image can be flat.

#define CODE64 0x08
#define DATA 0x10
#define CODE32 0x18
#define TRAMPOLINE 0x8000

    .section .text.start, "ax"
    .code32
    .globl Start
multiboot_header:
    .long 0x1badb002                    // magic
    .long 0x00010003                    // page-aligned, memory map, address fields
    .long -(0x1badb002 + 0x00010003)
    .long multiboot_header              // load address of this header
    .long multiboot_header              // start of the image
    .long image_end                     // end of what is loaded
    .long bss_end
    .long Start

Start:
    cli
    cld
    movl $boot_stack_end, %esp
    movl %ebx, %esi                     // the multiboot information, kept for C

    movl $boot_pdpt + 3, boot_pml4
    movl $boot_pds + 3, %eax
    xorl %ecx, %ecx
1:  movl %eax, boot_pdpt(, %ecx, 8)
    addl $4096, %eax
    incl %ecx
    cmpl $4, %ecx
    jb 1b
    movl $0x83, %eax                    // present, writable, 2 MiB
    xorl %ecx, %ecx
2:  movl %eax, boot_pds(, %ecx, 8)
    addl $0x200000, %eax
    incl %ecx
    cmpl $2048, %ecx
    jb 2b

    call enter_long_mode
    ljmp $CODE64, $boot64

// Leaves compatibility mode on; the far jump that follows makes it 64-bit.
enter_long_mode:
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x60, %eax                     // PAE, machine checks
    movl %eax, %cr4
    movl $0xc0000080, %ecx              // EFER
    rdmsr
    orl $0x100, %eax                    // LME
    wrmsr
    movl %cr0, %eax
    andl $0x9fffffff, %eax              // caches on
    orl $0x80000001, %eax               // PG, PE
    movl %eax, %cr0
    lgdt gdt_pointer
    ret

    .code64
boot64:
    call load_segments
    movl %esi, %edi
    call Main

load_segments:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    lidt idt_pointer
    ret

// The other vCPUs start in real mode at TRAMPOLINE, where C copies this.
    .globl trampoline, trampoline_end
    .code16
trampoline:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl TRAMPOLINE + (trampoline_gdt - trampoline)
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    ljmpl $CODE32, $other32
trampoline_gdt:
    .word gdt_end - gdt - 1
    .long gdt
trampoline_end:

    .code32
other32:
    movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %ss
    movl $1, %ebx
    lock xaddl %ebx, other_count        // which one am I, from 0
    movl %ebx, %esp
    incl %esp
    shll $14, %esp
    addl $other_stacks, %esp            // 16 KiB each
    call enter_long_mode
    ljmp $CODE64, $other64
    .code64
other64:
    call load_segments
    movl %ebx, %edi
    incl %edi
    call OtherMain

// Exceptions: vector and the top of the stack (an error code, or rip at once) to C, which does not return.
    .globl exception_stubs
exception_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    movl $vector, %edi
    jmp exception
    .set vector, vector + 1
    .endr
exception:
    movq %rsp, %rsi
    andq $-16, %rsp
    call Exception

    .section .rodata
    .balign 8
gdt:
    .quad 0
    .quad 0x00209a0000000000            // 64-bit code
    .quad 0x00cf92000000ffff            // data
    .quad 0x00cf9a000000ffff            // 32-bit code
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt
idt_pointer:
    .word 32 * 16 - 1
    .quad idt

    .bss
    .balign 4096
    .globl boot_pdpt, idt, other_count, other_stacks
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pds:  .skip 4 * 4096
idt:       .skip 32 * 16
other_count: .skip 16
    .balign 16
boot_stack: .skip 16384
boot_stack_end:
other_stacks: .skip 63 * 16384

    .section .note.GNU-stack, "", @progbits
