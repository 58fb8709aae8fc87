/**
 * The nodes of a parsed template, as `@huggingface/jinja` makes them; it does not export their types.
 *
 * @module
 */

interface Operator {
  readonly value: string;
}

export type Identifier = { type: "Identifier"; value: string };
export type KeywordArgument = {
  type: "KeywordArgumentExpression";
  key: Identifier;
  value: Expression;
};
export type Parameter = Identifier | KeywordArgument;
export type Call = { type: "CallExpression"; callee: Expression; args: Expression[] };

export type Expression =
  | Identifier
  | KeywordArgument
  | Call
  | { type: "IntegerLiteral"; value: number }
  | { type: "FloatLiteral"; value: number }
  | { type: "StringLiteral"; value: string }
  | { type: "ArrayLiteral"; value: Expression[] }
  | { type: "TupleLiteral"; value: Expression[] }
  | { type: "ObjectLiteral"; value: Map<Expression, Expression> }
  | { type: "MemberExpression"; object: Expression; property: Expression; computed: boolean }
  | { type: "FilterExpression"; operand: Expression; filter: Identifier | Call }
  | { type: "TestExpression"; operand: Expression; negate: boolean; test: Identifier }
  | { type: "SelectExpression"; lhs: Expression; test: Expression }
  | { type: "Ternary"; condition: Expression; trueExpr: Expression; falseExpr: Expression }
  | { type: "UnaryExpression"; operator: Operator; argument: Expression }
  | { type: "BinaryExpression"; operator: Operator; left: Expression; right: Expression }
  | { type: "SliceExpression"; start?: Expression; stop?: Expression; step?: Expression }
  | { type: "SpreadExpression"; argument: Expression }
  | { type: "KeywordSpreadExpression"; argument: Expression };

export type For = {
  type: "For";
  loopvar: Expression;
  iterable: Expression;
  body: Node[];
  defaultBlock: Node[];
};
export type SetNode = { type: "Set"; assignee: Expression; value: Expression | null; body: Node[] };
export type Macro = { type: "Macro"; name: Identifier; args: Parameter[]; body: Node[] };

/** A part of a template: a statement, or an expression whose value is written. */
export type Node =
  | Expression
  | For
  | SetNode
  | Macro
  | { type: "Comment" }
  | { type: "Break" }
  | { type: "Continue" }
  | { type: "If"; test: Expression; body: Node[]; alternate: Node[] }
  | { type: "CallStatement"; call: Call; callerArgs: Parameter[] | null; body: Node[] }
  | { type: "FilterStatement"; filter: Identifier | Call; body: Node[] };
