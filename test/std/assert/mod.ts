import assert from "node:assert/strict"; export function assertEquals<T>(a:T,b:T,m?:string):void{assert.deepStrictEqual(a,b,m);}
